#!/bin/bash
#PBS -l nodes=2:ppn=12,pmem=1800mb,feature=haswell
#PBS -l qos=flex,advres=course.1
#PBS -W x="PARTITION:a"
#PBS -l naccesspolicy=SINGLEUSER
./run
