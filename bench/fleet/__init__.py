"""A fleet at the scale of the internet, in discrete events, by the functions that run on the devices themselves.

python -m bench.fleet                     # a million devices: build/bench/fleet.json, docs/fleet.md
python -m bench.fleet --devices 10000     # the same in seconds
"""
