#!/bin/bash
#PBS -N moab
#PBS -l nodes=2:ppn=20:gpus=2,feature=rack1:rack2
#PBS -l naccesspolicy=uniqueuser,qos=high
#PBS -W x=NACCESSPOLICY:SINGLEJOB
#PBS -W x="GRES:matlab+2"
#PBS -d .
msub_jobs=$(showq -u "$USER" | wc -l)
