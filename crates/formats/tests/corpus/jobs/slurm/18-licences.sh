#!/bin/bash
#SBATCH -L matlab:2,ansys@srv
#SBATCH --nice=50 --hold
#SBATCH --reservation=course
#SBATCH --qos=high
#SBATCH --tmp=20G
#SBATCH --no-requeue
matlab -batch run
