#!/bin/bash

#SBATCH --job-name=parsl.block-0.1712
#SBATCH --output=/home/u/runinfo/000/submit_scripts/parsl.block-0.stdout
#SBATCH --error=/home/u/runinfo/000/submit_scripts/parsl.block-0.stderr
#SBATCH --nodes=2
#SBATCH --time=30
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --clusters=here

export JOBNAME="parsl.block-0.1712"
cat << SLURM_EOF > cmd_$SLURM_JOB_NAME.sh
process_worker_pool.py -a 10.0.0.1 -p 0 -c 1.0 -m None --poll 10 --task_port=54321
SLURM_EOF
chmod a+x cmd_$SLURM_JOB_NAME.sh
srun --ntasks 2 -l bash cmd_$SLURM_JOB_NAME.sh
