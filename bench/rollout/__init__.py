"""A fleet that lives with a real update server: devices with the real client, installs that are simulated.

make fleet                          # 1,000 devices, a hawkBit of our own: build/bench/rollout-VERSION.json
make fleet HAWKBIT=URL              # on a server that somebody started (admin:admin)
"""
