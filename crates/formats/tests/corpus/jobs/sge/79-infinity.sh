#!/bin/bash
#$ -l h_rt=INFINITY
#$ -l h_vmem=INFINITY
#$ -l h_stack=INFINITY
./forever
