#!/bin/bash
#$ -t 1-12
#$ -tc 3
#$ -o logs/$JOB_NAME.$JOB_ID.$TASK_ID.out
./task $SGE_TASK_ID
