#!/bin/bash
# A cohort on SLURM without another package: sbatch cohort_slurm.sh BIDS_DIR OUT_DIR [options of metaqsm bids]
#
# A scheduler and metaqsm run in the first task; every task is a worker of one scan at a time. BIDS_DIR and
# OUT_DIR must be seen by all nodes under the same path. Killed, or out of time: submit it again, and it does
# what is missing. `metaqsm bids BIDS_DIR OUT_DIR participant --dry-run` says beforehand what there is to do and
# how much memory a scan takes.
#SBATCH --job-name=metaqsm
#SBATCH --ntasks=8
#SBATCH --cpus-per-task=4
#SBATCH --mem-per-cpu=3G
#SBATCH --time=12:00:00
# With cards, one for each worker:  #SBATCH --gpus-per-task=1, and GPU=1 among the resources below.

set -euo pipefail
if [ $# -lt 2 ]; then
    echo "sbatch $0 BIDS_DIR OUT_DIR [options of metaqsm bids]" >&2
    exit 2
fi
bids_dir=$1 out_dir=$2
shift 2

export DASK_LOGGING__DISTRIBUTED=error  # what becomes of scans is told by metaqsm
# The scheduler writes its address into a file that the workers wait for.
address_file=$(mktemp "${SLURM_SUBMIT_DIR:-$PWD}/metaqsm-scheduler-XXXXXX.json")
rm "$address_file"
dask scheduler --scheduler-file "$address_file" --port 0 &
scheduler=$!
# One thread of Dask's for each: the computing itself takes the task's cores. Each names one place to compute
# and one to read and write, so that a worker reads the next scan while it computes.
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1} NUMBA_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
${SRUN-srun} dask worker --scheduler-file "$address_file" --nthreads 2 --nworkers 1 --memory-limit auto \
    --resources "compute=1 files=1" --death-timeout 120 &
workers=$!
finish() {
    kill "$workers" 2>/dev/null || true
    wait "$workers" 2>/dev/null || true
    kill "$scheduler" 2>/dev/null || true
    wait "$scheduler" 2>/dev/null || true
    rm -f "$address_file"
}
trap finish EXIT

# All workers first: how many scans are sent out at once is told from the workers that are there.
address=$(python - "$address_file" "${SLURM_NTASKS:-1}" <<'END'
import sys
from distributed import Client
client = Client(scheduler_file=sys.argv[1], timeout=120)
client.wait_for_workers(int(sys.argv[2]), timeout=600)
print(client.scheduler.address)
END
)
metaqsm bids "$bids_dir" "$out_dir" participant --scheduler "$address" "$@"
