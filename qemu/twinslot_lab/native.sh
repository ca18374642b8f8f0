#!/bin/sh
# Install Debian packages in a tree of a foreign architecture. What maintainer scripts run is native (native.py says how).
# Runs in a mount namespace of its own: what is mounted here ends with this script. dpkg tells its steps in PROGRESS.
#
#   native.sh base TOOLS DEBS PROGRESS OUT [DPKG-OPTION...]   into an empty tree, in memory; OUT: its tar file
#   native.sh install TOOLS DEBS PROGRESS TREE                into a tree that has what they depend on
#
# TOOLS is mounted read-only: a script that would change it fails, rather than do its work in the wrong place.
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true LC_ALL=C.UTF-8

devices() { # DIRECTORY
    mount -t tmpfs tmpfs "$1/dev"
    mknod -m 666 "$1/dev/null" c 1 3
    mknod -m 666 "$1/dev/zero" c 1 5
    mknod -m 666 "$1/dev/random" c 1 8
    mknod -m 666 "$1/dev/urandom" c 1 9
}

view() { # the tree as scripts see it, at TOOLS/view: with the native programs over its own, but for those in DEBS
    mount --bind "$tree" "$tools/view"
    devices "$tools/view"
    mount -t proc -o ro proc "$tools/view/proc"
    mount -t sysfs -o ro sysfs "$tools/view/sys"
    printf '#!/bin/sh\nexit 101\n' > "$tree/usr/sbin/policy-rc.d" # no service manager runs in the tree
    chmod 755 "$tree/usr/sbin/policy-rc.d"
    interpreter=$(cat "$tools/interpreter") libraries=$(cat "$tools/libraries")
    [ ! -e "$tree$interpreter" ] || return 0 # the host's own architecture
    mkdir -p "$tree/$libraries" "$tree/$(dirname "$interpreter")"
    : > "$tree$interpreter"
    {
        echo "$tools/$libraries $tools/view/$libraries none bind,ro 0 0"
        echo "$tools$interpreter $tools/view$interpreter none bind,ro 0 0"
        while read -r program; do
            [ ! -f "$tree/$program" ] || [ -L "$tree/$program" ] || grep -qx "./$program" "$scratch/shipped" ||
                echo "$tools/$program $tools/view/$program none bind,ro 0 0"
        done < "$tools/programs"
    } > "$scratch/fstab"
    mount --all --fstab "$scratch/fstab"
}

unview() {
    umount --recursive "$tools/view"
    rm "$tree/usr/sbin/policy-rc.d"
    [ -e "$scratch/fstab" ] || return 0
    rm "$tree$interpreter"
    rmdir "$tree/$libraries"
    rmdir --ignore-fail-on-non-empty "$tree/$(dirname "$interpreter")"
}

base() { # OUT [DPKG-OPTION...]
    out=$1
    shift
    tree=$scratch/tree
    mkdir -p "$tree/usr/bin" "$tree/usr/sbin" "$tree/usr/lib" "$tree/var/lib/dpkg/info" "$tree/var/lib/dpkg/updates"
    mkdir -p "$tree/etc/dpkg/dpkg.cfg.d"
    for folder in bin sbin lib; do ln -s "usr/$folder" "$tree/$folder"; done
    : > "$tree/var/lib/dpkg/status"
    : > "$scratch/shipped"
    for option; do echo "${option#--}"; done > "$tree/etc/dpkg/dpkg.cfg.d/board"
    mount --bind "$tree" "$tools/target"
    for folder in etc var; do mount --bind "$tree/$folder" "$tools/$folder"; done
    # Scripts before unpacking run in TOOLS: in the tree there is nothing yet that could run them. What they change is
    # the tree's all the same: those that know of DPKG_ROOT reach it there, and for the others /etc and /var are its own.
    chroot "$tools" sh -c 'cd /debs && exec dpkg --root=/target --force-script-chrootless --force-architecture \
        --force-depends --force-unsafe-io --no-triggers --status-fd 3 --unpack ./*.deb' 3>> "$progress"
    view
    chroot "$tools/view" dpkg --force-unsafe-io --status-fd 3 --configure --pending 3>> "$progress"
    unview
    rm -f "$tree/var/lib/dbus/machine-id" # each device gets its own
    : > "$tree/etc/machine-id"
    tar -C "$tree" --sort=name --numeric-owner --xattrs --mtime="@$SOURCE_DATE_EPOCH" --clamp-mtime -cf "$out" .
}

install() { # TREE
    tree=$1
    for deb in "$debs"/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -t; done > "$scratch/shipped"
    view
    mkdir "$tree/inbox"
    mount --bind "$debs" "$tools/view/inbox"
    chroot "$tools/view" sh -c 'exec dpkg --force-unsafe-io --status-fd 3 --install /inbox/*.deb' 3>> "$progress"
    unview
    rmdir "$tree/inbox"
}

verb=$1 tools=$2 debs=$3 progress=$4
shift 4
mount --make-rprivate /
mount --bind "$tools" "$tools"
mount -t tmpfs tmpfs "$tools/tmp"
scratch=$tools/tmp
mount --bind "$debs" "$tools/debs"
devices "$tools"
mount -o remount,bind,ro "$tools"
"$verb" "$@"
