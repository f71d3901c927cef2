#!/bin/bash
#BSUB -J cavity3d
#BSUB -n 192
#BSUB -R "span[ptile=48]"
#BSUB -R "select[model==SkyLake || model==CascadeLake]"
#BSUB -R "same[model]"
#BSUB -R "cu[type=rack:pref=maxavail:maxcus=2]"
#BSUB -q parallel
#BSUB -W 36:00
#BSUB -x
#BSUB -o cavity.%J.out
#BSUB -e cavity.%J.err

source /opt/foam/etc/bashrc
decomposePar -force > log.decompose
mpirun -np $LSB_DJOB_NUMPROC simpleFoam -parallel > log.solver
reconstructPar -latestTime > log.reconstruct
