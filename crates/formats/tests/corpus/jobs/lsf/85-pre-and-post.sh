#!/bin/bash
#BSUB -J staged
#BSUB -E "mkdir -p /scratch/staged"
#BSUB -Ep "rm -rf /scratch/staged"
#BSUB -o o.%J
cp big.dat /scratch/staged
./x /scratch/staged/big.dat
