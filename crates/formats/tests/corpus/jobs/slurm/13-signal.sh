#!/bin/bash
#SBATCH --signal=B:USR1@90
#SBATCH -t 4:00:00
trap 'cp state.chk $SLURM_SUBMIT_DIR; exit 0' USR1
./longrun &
wait
