#!/bin/bash
#PBS -N motorbike
#PBS -q parallel
#PBS -l select=3:ncpus=40:mpiprocs=40:mem=180GB:interconnect=hdr
#PBS -l place=scatter:exclhost
#PBS -l walltime=16:30:00
#PBS -A aero

cd $PBS_O_WORKDIR
. /opt/openfoam/etc/bashrc
np=$(wc -l < $PBS_NODEFILE)
foamDictionary -entry numberOfSubdomains -set $np system/decomposeParDict
decomposePar -force > log.decompose 2>&1
mpirun -np $np --hostfile $PBS_NODEFILE simpleFoam -parallel > log.simple 2>&1
reconstructPar -latestTime > log.reconstruct 2>&1
