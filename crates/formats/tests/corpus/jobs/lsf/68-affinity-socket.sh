#!/bin/bash
#BSUB -n 2
#BSUB -R "affinity[socket(1,exclusive=(socket,alljobs)):membind=localprefer]"
#BSUB -o o
./x
