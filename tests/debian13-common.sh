# What tests/debian13.sh and bench/debian13.sh have in common; both source it, as dash does once more inside of the
# namespace. POSIX: no array, no `local`.
# shellcheck shell=sh
# shellcheck disable=SC2034 # variables are for who sources this

# The packages of the tree: what the client and twinslot-image need, and their tests.
packages=python3,python3-construct,python3-cryptography,python3-dbus-next,python3-hypothesis,python3-numpy
packages=$packages,python3-prometheus-client,python3-pyelftools,python3-pytest,python3-pytest-xdist,python3-securesystemslib
packages=$packages,python3-tuf,python3-urllib3,python3-zstandard
packages=$packages,dbus,e2fsprogs,erofs-utils,fdisk,grub-common,iproute2,libubootenv-tool,mount,opensc,openssl,pkcs11-provider,softhsm2
packages=$packages,swtpm,tpm2-abrmd,libtpm2-pkcs11-1,libtss2-tcti-swtpm0t64,libtss2-tcti-tabrmd0
packages=$packages,systemd,u-boot-tools,util-linux

# From the checkout's directory: make the tree of `$packages`, once. Sets `$source_tree`, which is the checkout, `$tree`,
# which is named by the hash of the packages, and `$sudo`.
make_tree() {
    source_tree=$PWD
    tree=$source_tree/build/cache/debian13-$(printf '%s\n' "$packages" | sha256sum | cut -c1-16)
    sudo=""
    [ "$(id -u)" = 0 ] || sudo=sudo
    tests/debian13-tree.sh "$tree" "$packages"
}

# Inside of a mount namespace: the checkout `$source_tree` at /src of `$tree`, and what a program expects of a running system.
mount_tree() {
    mkdir -p "$tree/src"
    mount --bind "$source_tree" "$tree/src"
    for place in dev sys; do mount --rbind "/$place" "$tree/$place"; done
    mount -t proc proc "$tree/proc"
    mount -t tmpfs tmpfs "$tree/tmp"
}
