"""Workers that the tests of cohorts share; the maker of BIDS datasets stands with the tests of BIDS."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "io" / "bids"))


@pytest.fixture(scope="package")
def scheduler():
    """Address of a scheduler with two workers, started once: each loads its libraries for seconds.

    A scan may take its worker with it once before it is suspected, in place of twice.
    """
    from napari_metaqsm.cohort.cluster import _CONFIGURATION, local_cluster
    from napari_metaqsm.cohort.memory import GB, Share

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_CONFIGURATION, "distributed.scheduler.allowed-failures", 0)
        with local_cluster(Share(2, 1, 2 * GB)) as cluster:
            yield cluster.client.scheduler.address
