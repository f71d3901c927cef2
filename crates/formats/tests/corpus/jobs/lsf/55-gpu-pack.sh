#!/bin/bash
#BSUB -gpu "num=8:mode=shared:gtile=4:gpack=yes:block=yes:glink=yes"
#BSUB -n 8
#BSUB -o o.%J
./nccl_test
