#!/bin/bash
#BSUB -J "grid search[1-10:3, 20, 30-32]%4"
#BSUB -o o.%I
./x
