#!/bin/sh
#PBS -l nodes=1:ppn=2,vmem=6gb,mem=4194304KB
#PBS -l file=2097152b
./model
