#!/bin/bash
#BSUB -W soon
#BSUB -n none
#BSUB -J "a[5-1]"
#BSUB -w "done($JOB)"
#BSUB -w "dnoe(12)"
#BSUB -R "rusage[mem=lots]"
#BSUB -R "spam[ptile=2]"
#BSUB -R "span[ptile=2"
#BSUB -gpu "num=1:mps=yes"
#BSUB -Jx -outdri a
./run
