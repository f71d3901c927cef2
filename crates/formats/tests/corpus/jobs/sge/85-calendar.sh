#!/bin/bash
#$ -cal night
#$ -cwd
./run
