#!/bin/bash
#$ -t 2-10:2
./task $SGE_TASK_ID
