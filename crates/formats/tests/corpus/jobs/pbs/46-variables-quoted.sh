#!/bin/bash
#PBS -v "NAME='a, b',LEVEL=3",HOME
#PBS -N with-15-letters
#PBS -k oed
#PBS -R oe
env | sort
