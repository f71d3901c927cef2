#!/bin/bash
#BSUB -P "deep sea"  -G ocean/long -g /ocean/2024/test
#BSUB -sla deadline_night -U "res_7#42" -app cfd_big
#BSUB -sp 0 -rn -B
#BSUB -o o
./x
