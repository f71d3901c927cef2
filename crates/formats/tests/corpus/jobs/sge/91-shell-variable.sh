#!/bin/bash
NJOBS=20
#$ -t 1-$NJOBS
#$ -N counted
./run $SGE_TASK_ID
