#!/bin/bash
#SBATCH --nodes=16 --segment=8 --consolidate-segments
#SBATCH --oom-kill-step --stepmgr --resv-ports=8
#SBATCH --extra="rack>3" --context=unconfined
#SBATCH --requeue=expedite
#SBATCH --time=10:00
srun ./nccl-tests
