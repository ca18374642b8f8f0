#!/bin/bash
# The client's tests once more, with Debian 13's own Python and libraries, in a tree made by mmdebstrap and entered with
# chroot in namespaces of its own. Needs root (or sudo); the tree is cached by the hash of its packages. Left out: two
# tests that need addpart(8), which Debian 13's util-linux does not have, and what no other Python or library can change
# for a device: the lab, the bench, the linters, and the tests that read this tree (its pages, its code as text, its
# distributions) rather than run the client or twinslot-image. Neither the evidence of a release: its tools need libraries
# of the build host that Debian 13 has not, or in another version.
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=tests/debian13-common.sh
. tests/debian13-common.sh
make_tree

# shellcheck disable=SC2016 # expanded inside
$sudo unshare --mount --pid --fork --kill-child sh -c '
    set -eu
    tree=$1 source_tree=$2
    shift 2
    . "$source_tree/tests/debian13-common.sh"
    mount --make-rprivate /
    mount --bind "$tree" "$tree" # a mount point, so that tests may make mount namespaces of their own
    mount_tree
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
        --ignore=tests/unit/test_messages.py --ignore=tests/unit/test_terminology.py --ignore=tests/unit/test_threat_model.py \
        --ignore=tests/component/test_emergency.py --ignore=tests/component/test_commit_hook.py \
        --ignore=tests/component/test_sbom.py --ignore=tests/component/test_provenance.py --ignore=tests/component/test_release_gate.py \
        --ignore=tests/unit/test_gate_parsers.py --ignore-glob=\"*test_dossier*\" --ignore=tests/component/test_diff.py \
        --ignore=tests/component/test_guide_evidence.py --ignore=tests/component/test_guide_walk.py \
        --ignore=tests/component/test_bad_evidence.py --ignore=tests/component/test_approve.py \
        --ignore=tests/unit/test_distributions.py --ignore=tests/component/test_wheels.py \
        -q -n 2 --dist worksteal -m \"not board\" $*"
' sh "$tree" "$source_tree" "${@:-tests/unit tests/component tests/simulation}"
