#!/bin/bash
#BSUB -R "{select[a] rusage[mem=1]} || {select[b]}"
#BSUB -R "rusage[mem=1||mem=2]"
./run
