#!/bin/bash
#SBATCH --job-name=motorbike
#SBATCH --nodes=3-6
#SBATCH --ntasks=144
#SBATCH --ntasks-per-core=1
#SBATCH --distribution=block:cyclic
#SBATCH --hint=nomultithread
#SBATCH --mem-per-cpu=3800M
#SBATCH --time=16:30:00
#SBATCH --switches=1@02:00:00

source "$FOAM_INSTALL/etc/bashrc"
blockMesh > log.blockMesh 2>&1
foamDictionary -entry numberOfSubdomains -set "$SLURM_NTASKS" system/decomposeParDict
decomposePar -force > log.decomposePar 2>&1
srun snappyHexMesh -parallel -overwrite
srun simpleFoam -parallel > log.simpleFoam 2>&1
reconstructPar -latestTime
rm -rf processor*
