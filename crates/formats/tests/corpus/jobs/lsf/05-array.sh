#!/bin/bash
#BSUB -J "PHIPA[1-128]"
#BSUB -o logs/%J.%I.out
#BSUB -e logs/%J.%I.err
./step $LSB_JOBINDEX
