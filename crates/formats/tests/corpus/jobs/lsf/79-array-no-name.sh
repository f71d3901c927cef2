#!/bin/bash
#BSUB -J "[1-50]%10"
#BSUB -oo o.%I
./x $LSB_JOBINDEX
