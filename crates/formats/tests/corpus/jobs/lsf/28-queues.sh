#!/bin/tcsh
#BSUB -q "priority@cluster normal"
#BSUB -P physics
#BSUB -n 16,32
#BSUB -R "same[type]" -R "span[block=4]"
#BSUB -is input.dat -oo run.log
#BSUB -wa "INT" -wt "5"
./run
