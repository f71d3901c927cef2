#!/bin/bash
#BSUB -n 4
#BSUB -R "affinity[thread*4:distribute=balance]"
#BSUB -o o
./x
