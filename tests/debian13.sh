#!/bin/bash
# The client's tests once more, with Debian 13's own Python and libraries, in a tree made by mmdebstrap and entered with
# chroot in namespaces of its own. Needs root (or sudo); the tree is cached by the hash of its packages. Left out: two
# tests that need addpart(8), which Debian 13's util-linux does not have, and what no other Python or library can change
# for a device: the lab, the bench, the linters, and the tests that read this tree (its pages, its code as text, its
# distributions) rather than run the client or twinslot-image. Neither the evidence of a release: its tools need libraries
# of the build host that Debian 13 has not, or in another version.
set -eu
cd "$(dirname "$0")/.."
source_tree=$PWD
packages=python3,python3-construct,python3-cryptography,python3-dbus-next,python3-hypothesis,python3-numpy
packages+=,python3-prometheus-client,python3-pyelftools,python3-pytest,python3-pytest-xdist,python3-securesystemslib
packages+=,python3-tuf,python3-urllib3,python3-zstandard
packages+=,dbus,e2fsprogs,erofs-utils,fdisk,grub-common,iproute2,libubootenv-tool,mount,opensc,openssl,pkcs11-provider,softhsm2
packages+=,swtpm,tpm2-abrmd,libtpm2-pkcs11-1,libtss2-tcti-swtpm0t64,libtss2-tcti-tabrmd0
packages+=,systemd,u-boot-tools,util-linux
key=$(sha256sum <<<"$packages" | cut -c1-16)
tree=$source_tree/build/cache/debian13-$key
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo

tests/debian13-tree.sh "$tree" "$packages"

# shellcheck disable=SC2016 # expanded inside
$sudo unshare --mount --pid --fork --kill-child sh -c '
    set -eu
    tree=$1 source_tree=$2
    shift 2
    mount --make-rprivate /
    mkdir -p "$tree/src"
    mount --bind "$tree" "$tree" # a mount point, so that tests may make mount namespaces of their own
    mount --bind "$source_tree" "$tree/src"
    for place in dev sys; do mount --rbind "/$place" "$tree/$place"; done
    mount -t proc proc "$tree/proc"
    mount -t tmpfs tmpfs "$tree/tmp"
    mount -t tmpfs tmpfs "$tree/run"
    mkdir -m 1777 "$tree/run/lock" # as systemd-tmpfiles makes it
    # Not exec: as process 1 pytest would inherit the orphans of other tests.
    chroot "$tree" sh -c "cd /src && exec env HOME=/tmp PYTHONDONTWRITEBYTECODE=1 \
        PYTHONPATH=/src/client:/src/image_tools python3 -m pytest -p no:cacheprovider \
        --deselect=tests/component/test_blockdev.py::test_a_disk_that_holds_the_running_partition_is_refused_and_its_other_partition_is_not \
        --deselect=tests/component/test_blockdev.py::test_a_disk_with_a_mounted_partition_is_refused \
        --ignore-glob=\"*test_lab_*\" --ignore-glob=\"*test_bench_*\" --ignore=tests/unit/test_powercut_plan.py \
        --ignore=tests/unit/test_linters.py --ignore=tests/unit/test_layers.py --ignore=tests/unit/test_doors.py \
        --ignore=tests/unit/test_dead_definitions.py --ignore=tests/unit/test_clocks.py --ignore=tests/unit/test_docs.py \
        --ignore=tests/unit/test_errors_page.py --ignore=tests/unit/test_page_claims.py --ignore=tests/component/test_pages.py \
        --ignore=tests/component/test_emergency.py \
        --ignore=tests/component/test_sbom.py --ignore=tests/component/test_provenance.py --ignore=tests/component/test_release_gate.py \
        --ignore=tests/unit/test_gate_parsers.py --ignore-glob=\"*test_dossier*\" --ignore=tests/component/test_diff.py \
        --ignore=tests/component/test_guide_evidence.py --ignore=tests/component/test_guide_walk.py \
        --ignore=tests/component/test_bad_evidence.py --ignore=tests/component/test_approve.py \
        --ignore=tests/unit/test_distributions.py --ignore=tests/component/test_wheels.py \
        -q -n 2 --dist worksteal -m \"not board\" $*"
' sh "$tree" "$source_tree" "${@:-tests/unit tests/component tests/simulation}"
