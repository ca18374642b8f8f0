#!/bin/sh
# The first process of the device, in mount, process and host name spaces of its own: a slot becomes the root.
# What a kernel and an initrd do on a board: mount the slot and the data partition, and start what is in the slot.
# Usage: start.sh SLOT TOP A B DATA CARD VENV
#   SLOT: a or b. TOP: an empty directory. A, B, DATA, CARD: loop devices. VENV: Python's packages for the client.
set -eu
slot=$1 top=$2 a=$3 b=$4 data=$5 card=$6 venv=$7
hostname pump
if [ "$slot" = a ]; then root=$a; else root=$b; fi

mount -t ext4 -o ro,noload "$root" "$top" # without its journal: nothing is ever written to the slot that runs
mount -t proc proc "$top/proc"
mount --bind -o ro /sys "$top/sys"
mount -t tmpfs -o mode=755 tmpfs "$top/dev"
mount -t tmpfs -o mode=755 tmpfs "$top/run"
mount -t tmpfs -o mode=1777 tmpfs "$top/tmp"
for node in null zero full random urandom tty; do cp -a "/dev/$node" "$top/dev/"; done
ln -s /proc/self/fd "$top/dev/fd"
mkdir "$top/dev/pts"
mount --bind /dev/pts "$top/dev/pts"
cp -a "$a" "$top/dev/slot_a"
cp -a "$b" "$top/dev/slot_b"
cp -a "$card" "$top/dev/card"
mount --bind -o ro /usr "$top/usr"
mount --bind -o ro /etc/alternatives "$top/etc/alternatives"
mount --bind -o ro "$venv" "$top/opt/venv"
e2fsck -p "$data" > /dev/null || [ $? -le 1 ] # 1: it has repaired what a power cut left
mount -t ext4 "$data" "$top/var/lib/twinslot"

# Each start has its own number, and the boot loader says which slot it took.
mkdir "$top/run/start" "$top/run/lock" "$top/run/old"
cat /proc/sys/kernel/random/uuid > "$top/run/start/boot_id"
echo "root=$root ro twinslot.slot=$slot" > "$top/run/start/cmdline"
mount --bind "$top/run/start/boot_id" "$top/proc/sys/kernel/random/boot_id"
mount --bind "$top/run/start/cmdline" "$top/proc/cmdline"

cd "$top"
pivot_root . run/old
exec chroot . /bin/sh /opt/device/init
