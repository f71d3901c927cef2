#!/bin/bash
#$ -a 3101020304.05
#$ -h
./later
