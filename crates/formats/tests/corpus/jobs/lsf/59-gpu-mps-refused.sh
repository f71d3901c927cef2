#!/bin/bash
#BSUB -gpu "num=1:mode=shared:mps=yes,shared,nocvd:j_exclusive=no"
#BSUB -gpu "num=1:mig=3/2"
#BSUB -gpu "num=two"
#BSUB -gpu "num=1/socket"
#BSUB -o o
./many_small
