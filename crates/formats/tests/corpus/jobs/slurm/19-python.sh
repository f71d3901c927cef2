#!/usr/bin/env python3
#SBATCH --time=10
#SBATCH --ntasks=1
"""A job in Python."""
import os
print(os.environ["SLURM_JOB_ID"])
