#!/bin/bash
#BSUB -J "a[1-10"
#BSUB -J "b[]"
#BSUB -J "c[1..10]"
#BSUB -J "d[1-10]5"
#BSUB -J "e[1-10]%0"
#BSUB -J "f[$N]"
#BSUB -o o
./x
