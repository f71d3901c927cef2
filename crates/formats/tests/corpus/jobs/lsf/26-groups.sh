#!/bin/bash
#BSUB -G chem -g /chem/long -sla gold -U user1#13 -app name
#BSUB -sp 40 -rn -Jd "what it is for" -a openmpi
#BSUB -R "rusage[matlab=2:duration=10,tmp=100]"
#BSUB -o o
./run
