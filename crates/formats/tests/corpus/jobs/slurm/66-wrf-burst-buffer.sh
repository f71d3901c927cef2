#!/bin/bash
#SBATCH --job-name=wrf-nest
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=48
#SBATCH --time=03:00:00
#SBATCH --bbf=buffer.spec
#DW jobdw type=scratch capacity=2TiB access_mode=striped
#DW stage_in type=directory source=/data/wrf/run1 destination=$DW_JOB_STRIPED/run1
#DW stage_out type=directory source=$DW_JOB_STRIPED/out destination=/data/wrf/out1

cd "$DW_JOB_STRIPED/run1" || exit 1
srun ./real.exe
srun ./wrf.exe
tail -n 3 rsl.error.0000
