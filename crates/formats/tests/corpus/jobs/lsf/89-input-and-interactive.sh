#!/bin/bash
#BSUB -I
#BSUB -i "answers for %J.txt"
#BSUB -K
R --no-save
