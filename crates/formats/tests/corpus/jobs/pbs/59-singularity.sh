#!/usr/bin/env bash
#PBS -N container
#PBS -l select=1:ncpus=4:mem=12gb:ngpus=1:container_engine=singularity
#PBS -l walltime=02:00:00
#PBS -koed
#PBS -v IMAGE=/images/tf_2.15.sif,SEED=7

module purge
module load singularity
export SINGULARITYENV_SEED=$SEED
singularity exec --nv --bind "$TMPDIR:/scratch" "$IMAGE" python3 -u model.py
