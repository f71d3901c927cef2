#!/bin/bash
#$ -hold_jid prep*,4711
#$ -hold_jid_ad 812
#$ -t 2-20:2
#$ -sync y
#$ -a 203103041530.15
./after $SGE_TASK_ID
