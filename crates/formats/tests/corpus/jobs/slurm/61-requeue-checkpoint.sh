#!/bin/bash
#SBATCH --job-name=resume-me
#SBATCH --time=0-12:00:00
#SBATCH --time-min=0-02:00:00
#SBATCH --signal=B:SIGUSR2@600
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x.%A.log
#SBATCH --mail-type=BEGIN,END,FAIL,REQUEUE,TIME_LIMIT_90
#SBATCH --mail-user=someone@example.org,other@example.org

again() {
    echo "$(date): asked to stop, checkpoint and once more"
    touch STOP
    wait "$pid"
    scontrol requeue "$SLURM_JOB_ID"
}
trap again USR2

echo "start ${SLURM_RESTART_COUNT:-0}"
./solver --restart-if-any state.h5 &
pid=$!
wait "$pid"
