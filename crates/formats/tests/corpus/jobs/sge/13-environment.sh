#!/bin/bash
#$ -v MODE=fast,HOME,PATH=/opt/bin
#$ -wd /work/me
#$ -i input.txt
#$ -notify
#$ -r y
./run
