#!/bin/bash
#SBATCH --job-name=mc
#SBATCH --array=1-20:2
#SBATCH --licenses=matlab@flex:1,MATLAB_Distrib_Comp_Engine@flex:12
#SBATCH --ntasks=1 --cpus-per-task=12
#SBATCH --mem-per-cpu=3G
#SBATCH --time=1-6
module load matlab
matlab -nodisplay -r "parpool('local', $SLURM_CPUS_PER_TASK); mc($SLURM_ARRAY_TASK_ID); exit"
