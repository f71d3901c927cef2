#!/bin/tcsh -f
#SBATCH --account=chem-lab
#SBATCH --partition=short,long
#SBATCH --qos=normal
#SBATCH -n1 -c4 -t30
#SBATCH --export=NONE
#SBATCH --get-user-env=L
setenv GAUSS_SCRDIR /tmp/$USER.$SLURM_JOB_ID
mkdir -p $GAUSS_SCRDIR
g16 < water.com > water.log
