#!/bin/bash
#BSUB -network "type=sn_all:protocol=mpi:mode=US"
#BSUB -ext "SLURM[nodes=4]"
#BSUB -n 8
#BSUB -o o
./x
