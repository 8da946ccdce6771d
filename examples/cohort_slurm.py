"""A cohort on SLURM from Python: ``python cohort_slurm.py BIDS_DIR OUT_DIR [WORKERS]``.

It runs on the login node and asks SLURM for workers as jobs of their own, through Dask's own deployment
(``pip install dask-jobqueue``, which is no part of this package). A scan whose worker was taken away is
computed by another. ``cohort_slurm.sh`` does without that package, in one job.
"""

import sys

from napari_metaqsm.cohort.run import run_cohort


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    from dask_jobqueue import SLURMCluster

    dataset, out = sys.argv[1:3]
    workers = int(sys.argv[3]) if len(sys.argv) > 3 else 8
    cluster = SLURMCluster(
        memory="12 GB",
        walltime="04:00:00",
        # A job is one worker with two threads of Dask's, one to compute and one to read and write beside it;
        # the computing itself takes all of the job's cores.
        processes=1,
        cores=2,
        job_cpu=4,
        job_script_prologue=["export OMP_NUM_THREADS=4 NUMBA_NUM_THREADS=4"],
        worker_extra_args=["--resources", "compute=1 files=1"],
        # With cards:  job_extra_directives=["--gpus=1"], and GPU=1 among the resources.
    )
    with cluster:
        cluster.scale(workers)
        # However long the queue is: scans are sent out by the number of workers that are there.
        cluster.wait_for_workers(workers)
        result = run_cohort(dataset, out, inversion=("tkd", "metaqsm"), scheduler=cluster.scheduler_address)
    for failure in result.failed:
        print(f"{failure.label} failed: {failure.reason}")
    print(f"{result}\nlook at: {out}/group.html")


if __name__ == "__main__":
    main()
