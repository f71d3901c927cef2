#!/bin/bash
#BSUB -n 4
#BSUB -o first
#BSUB -J one[1-3]
#BSUB -q a
#BSUB -n 8
#BSUB -oo second
#BSUB -J two
#BSUB -q b
./x
