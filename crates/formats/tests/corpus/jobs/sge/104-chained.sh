#!/bin/bash
#$ -terse -cwd
#$ -N pipeline -l h_rt=0:5:0
first=$(qsub -terse -cwd trim.sh)
second=$(qsub -terse -cwd -hold_jid "$first" map.sh)
qsub -cwd -hold_jid "${second%%.*}" -sync y report.sh
