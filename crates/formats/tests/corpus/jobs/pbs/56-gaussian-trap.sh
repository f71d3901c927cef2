#!/bin/bash
# Copies back what there is, also when the time is over.
#PBS -N benzene.opt
#PBS -l ncpus=8,mem=16gb,walltime=48:00:00
#PBS -l jobfs=200GB
#PBS -l storage=scratch/zz9+gdata/zz9
#PBS -l wd
#PBS -P zz9

export GAUSS_SCRDIR=$PBS_JOBFS
finish() { cp -p "$GAUSS_SCRDIR"/*.chk "$PBS_O_WORKDIR"; }
trap finish EXIT TERM
g16 < benzene.com > benzene.log &
wait $!
