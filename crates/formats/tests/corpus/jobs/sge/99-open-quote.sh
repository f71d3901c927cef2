#!/bin/bash
#$ -N "half
#$ -cwd
./run
