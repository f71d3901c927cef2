#!/bin/bash
#BSUB -m "host1 host2"
#BSUB -x
#BSUB -B -N -u someone@example.org
#BSUB -o o
./run
