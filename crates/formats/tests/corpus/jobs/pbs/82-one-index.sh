#!/bin/sh
#PBS -t 100
#PBS -l nodes=1
echo $PBS_ARRAYID
